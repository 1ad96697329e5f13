#include "core/memory_device.h"
