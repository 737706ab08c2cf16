#include "plait/threads.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <string>

namespace plait {
namespace {

void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// A barrier partner that has lost its processor may be away for a whole time slice: after this many
// pauses (some 20-50 us) give ours away instead of spinning against it.
constexpr int kBarrierSpins = 2000;
constexpr auto kIdleSpin = std::chrono::microseconds(200);

// CPU quota in processors from cgroup v2 or v1; 0 when there is none.
double cgroup_quota() {
  std::ifstream v2("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (v2 >> quota >> period) return quota == "max" || period <= 0 ? 0 : std::stod(quota) / period;
  std::ifstream quota_file("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");
  std::ifstream period_file("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  double microseconds = 0;
  if (quota_file >> microseconds && period_file >> period && microseconds > 0 && period > 0)
    return microseconds / period;
  return 0;
}

}  // namespace

int default_num_threads() {
  int count = static_cast<int>(std::thread::hardware_concurrency());
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) count = CPU_COUNT(&set);
  const double quota = cgroup_quota();
  if (quota > 0) count = std::min(count, std::max(1, static_cast<int>(quota)));
  return std::max(1, count);
}

Pool::Pool(int num_threads) : num_threads_(std::max(1, num_threads)) {
  try {
    for (int worker = 1; worker < num_threads_; ++worker)
      threads_.emplace_back([this, worker] { work(worker); });
  } catch (...) {  // the system has no more threads to give
    stop();
    throw;
  }
}

Pool::~Pool() {
  stop();
}

void Pool::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    generation_.fetch_add(1);
  }
  wake_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void Pool::run(const std::function<void(int)>& task) {
  if (num_threads_ == 1) return task(0);
  task_ = &task;
  running_.store(num_threads_ - 1, std::memory_order_relaxed);
  {
    std::lock_guard lock(mutex_);
    generation_.fetch_add(1, std::memory_order_release);
  }
  wake_.notify_all();
  task(0);
  for (int spins = 0; running_.load(std::memory_order_acquire) != 0; ++spins)
    spins < kBarrierSpins ? pause_briefly() : std::this_thread::yield();
}

void Pool::barrier() {
  if (num_threads_ == 1) return;
  const uint64_t phase = phase_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == num_threads_) {
    arrived_.store(0, std::memory_order_relaxed);
    phase_.store(phase + 1, std::memory_order_release);
    return;
  }
  for (int spins = 0; phase_.load(std::memory_order_acquire) == phase; ++spins)
    spins < kBarrierSpins ? pause_briefly() : std::this_thread::yield();
}

void Pool::work(int worker) {
  uint64_t seen = 0;
  while (wait_for_run(seen)) {
    ++seen;
    (*task_)(worker);
    running_.fetch_sub(1, std::memory_order_acq_rel);
  }
}

bool Pool::wait_for_run(uint64_t seen) {
  const auto asleep_at = std::chrono::steady_clock::now() + kIdleSpin;
  for (int spins = 0; generation_.load(std::memory_order_acquire) == seen; ++spins) {
    pause_briefly();
    if (spins % 64 == 63 && std::chrono::steady_clock::now() > asleep_at) {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return generation_.load(std::memory_order_acquire) != seen; });
    }
  }
  return !stopping_.load();
}

Share share_of(int64_t count, int64_t grain, int worker, int num_workers) {
  const int64_t grains = (count + grain - 1) / grain;
  const int64_t begin = grains * worker / num_workers * grain;
  const int64_t end = grains * (worker + 1) / num_workers * grain;
  return {std::min(begin, count), std::min(end, count)};
}

}  // namespace plait
