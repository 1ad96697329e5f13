#include "core/compress.h"
