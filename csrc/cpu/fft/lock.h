// Locks that hold across a fork.
#pragma once

#include <pthread.h>

#include <mutex>

namespace blurfft {

// One mutex for each tag. No fork leaves it locked for ever: at that moment another thread, which the child does not
// have, may hold it. None is locked while another is held.
template <class Tag>
std::mutex& fork_safe_mutex() {
  static std::mutex mutex;
  static const int registered = pthread_atfork([] { mutex.lock(); }, [] { mutex.unlock(); }, [] { mutex.unlock(); });
  static_cast<void>(registered);
  return mutex;
}

}  // namespace blurfft
