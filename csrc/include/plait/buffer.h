// Aligned memory that asks for huge pages when it is large.
#pragma once

#include <cstddef>
#include <cstdint>

namespace plait {

class Buffer {
 public:
  Buffer() = default;
  // Zeroed, aligned to 64 bytes (2 MiB from 4 MiB on). Throws std::bad_alloc.
  explicit Buffer(size_t bytes);
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  uint8_t* data() { return data_; }
  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

// Gives what the allocator holds but nobody uses back to the system.
void trim_heap();

}  // namespace plait
