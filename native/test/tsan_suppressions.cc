// Exceptions that cross threads count their references with atomics inside libstdc++, where TSan doesn't
// look: it takes the last release for a race with readers of the message before it.
extern "C" __attribute__((visibility("default"))) const char* __tsan_default_suppressions() {
  return "race:std::__exception_ptr::exception_ptr::_M_release\n";
}
