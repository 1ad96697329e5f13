// The command line of stillpoint-freezer (freezer.cc says what it means).
#pragma once

#include <vector>

namespace stillpoint::freezer {

struct Arguments {
  long limit_ms = 0;
  bool once = false;
  std::vector<int> cuts;  // of each cut, the first of its descriptors
  char** mounts = nullptr;
};

// @returns false if they are none.
bool parse(int argc, char** argv, Arguments& arguments);

}  // namespace stillpoint::freezer
