// Place.
#include "unit/codec/samples.hpp"
