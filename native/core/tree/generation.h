// Which content a tree has: that of a point, or that of no point.
#pragma once

#include "core/base/digest.h"
#include "core/base/id.h"

namespace stillpoint {

struct Generation {
  Id point_id{};  // zeros: a tree of no point
  Digest root{};

  bool operator==(const Generation&) const = default;
};

}  // namespace stillpoint
