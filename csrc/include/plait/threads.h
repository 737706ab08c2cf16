// One persistent pool of threads. The caller of run() is worker 0, so a pool of N starts N - 1
// threads.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace plait {

// How many threads are worth running: affinity, cgroup CPU quota and the number of processors, at
// least 1.
int default_num_threads();

class Pool {
 public:
  explicit Pool(int num_threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int size() const { return num_threads_; }

  // Runs task(worker) on every worker and returns when all have returned. One caller at a time; a
  // task must not throw. Between runs the workers spin briefly, then sleep.
  void run(const std::function<void(int)>& task);

  // Called by every worker inside run(): returns when all have arrived. What was written before is
  // visible after.
  void barrier();

 private:
  void work(int worker);
  bool wait_for_run(uint64_t seen);
  void stop();

  const int num_threads_;
  std::vector<std::thread> threads_;
  const std::function<void(int)>* task_ = nullptr;
  alignas(64) std::atomic<uint64_t> generation_{0};
  alignas(64) std::atomic<int> running_{0};
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<uint64_t> phase_{0};
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
};

// The share [begin, end) of `count` items that worker `worker` of `num_workers` gets, in multiples
// of `grain`.
struct Share {
  int64_t begin;
  int64_t end;
};
Share share_of(int64_t count, int64_t grain, int worker, int num_workers);

}  // namespace plait
