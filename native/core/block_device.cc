#include "core/block_device.h"
