# httplib::httplib, from its CMake package or by pkg-config, where it can be found; for the build and, installed beside
# HawserConfig.cmake, for static links.
if(NOT TARGET httplib::httplib)
  find_package(httplib CONFIG QUIET)
endif()
if(NOT TARGET httplib::httplib AND PKG_CONFIG_FOUND)
  pkg_check_modules(HAWSER_HTTPLIB QUIET IMPORTED_TARGET GLOBAL cpp-httplib)
  if(HAWSER_HTTPLIB_FOUND)
    add_library(httplib::httplib INTERFACE IMPORTED GLOBAL)
    target_link_libraries(httplib::httplib INTERFACE PkgConfig::HAWSER_HTTPLIB)
  endif()
endif()
