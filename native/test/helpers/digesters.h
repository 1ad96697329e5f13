// The digesters of the core's tests: today's, and one with a key.
#pragma once

#include "core/base/digest.h"

namespace stillpoint::test {

inline const Digester kPlain = Digester::plain();
inline const Digester kKeyed(Digester::Key{'o', 'f', ' ', 't', 'e', 's', 't', 's'});

}  // namespace stillpoint::test
