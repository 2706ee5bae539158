// What the C functions for the tests have in common.
#pragma once

#include <exception>
#include <string>

#include "emulator/launch.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

// Runs `run`; returns "" or what the emulator objects to.
template <class Run>
const char* guarded(Run run) {
  thread_local std::string message;
  message.clear();
  try {
    run();
  } catch (const std::exception& error) {
    message = error.what();
  }
  aapt::emulator::set_cluster(1);
  return message.c_str();
}
