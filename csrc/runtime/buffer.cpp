#include "plait/buffer.h"

#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

namespace plait {
namespace {

constexpr size_t kHugeFrom = size_t{4} << 20;
constexpr size_t kHugePage = size_t{2} << 20;

// Zero pages straight from the kernel: the thread that first writes one pays for it, and the end
// beyond the last whole huge page is backed by small ones.
uint8_t* map_aligned(size_t bytes) {
  const size_t reserved = bytes + kHugePage;
  void* found = mmap(nullptr, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (found == MAP_FAILED) throw std::bad_alloc();
  auto* start = static_cast<uint8_t*>(found);
  const size_t before = -reinterpret_cast<uintptr_t>(start) % kHugePage;
  if (before != 0) munmap(start, before);
  munmap(start + before + bytes, kHugePage - before);
  // Advice only: without huge pages everything still works.
  (void)madvise(start + before, bytes, MADV_HUGEPAGE);
  return start + before;
}

size_t rounded(size_t bytes, size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

size_t mapped_bytes(size_t bytes) {
  return rounded(bytes, static_cast<size_t>(sysconf(_SC_PAGESIZE)));
}

}  // namespace

Buffer::Buffer(size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  if (bytes >= kHugeFrom) {
    data_ = map_aligned(mapped_bytes(bytes));
    return;
  }
  data_ = static_cast<uint8_t*>(std::aligned_alloc(64, rounded(bytes, 64)));
  if (data_ == nullptr) throw std::bad_alloc();
  std::memset(data_, 0, rounded(bytes, 64));
}

Buffer::~Buffer() {
  if (size_ >= kHugeFrom)
    munmap(data_, mapped_bytes(size_));
  else
    std::free(data_);
}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void trim_heap() {
#if defined(__GLIBC__)
  malloc_trim(0);
#endif
}

}  // namespace plait
