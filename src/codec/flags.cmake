# The variants of the codecs are compiled as those of the kernels are.
include(${CMAKE_CURRENT_SOURCE_DIR}/kernels/flags.cmake)
