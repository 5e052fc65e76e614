# The variants of a layer's arithmetic are whole files, each compiled for its instruction set; which of them runs is decided at run
# time. Elsewhere than on x86-64 those beyond scalar are empty. Without exceptions, so that unoptimized code has no shared handlers.
# `name` is that of the layer: the codecs have the same files.
set(HAWSER_AVX2_OPTIONS)
set(HAWSER_AVX512_OPTIONS)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(HAWSER_AVX2_OPTIONS -mavx2 -mf16c)
  set(HAWSER_AVX512_OPTIONS -mavx512f -mavx512bw -mavx512dq -mavx512vl)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    list(APPEND HAWSER_AVX512_OPTIONS -Wno-maybe-uninitialized -Wno-uninitialized)  # its own intrinsics: GCC bug 105593
  endif()
endif()
set_source_files_properties(${CMAKE_CURRENT_SOURCE_DIR}/${name}/scalar.cpp PROPERTIES COMPILE_OPTIONS "-fno-exceptions")
set_source_files_properties(${CMAKE_CURRENT_SOURCE_DIR}/${name}/avx2.cpp PROPERTIES
  COMPILE_OPTIONS "-fno-exceptions;${HAWSER_AVX2_OPTIONS}")
set_source_files_properties(${CMAKE_CURRENT_SOURCE_DIR}/${name}/avx512.cpp PROPERTIES
  COMPILE_OPTIONS "-fno-exceptions;${HAWSER_AVX512_OPTIONS}")
