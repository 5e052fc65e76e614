# libuv::uv by pkg-config, where it can be found; for the build and, installed beside HawserConfig.cmake, for static links.
if(NOT TARGET libuv::uv AND PKG_CONFIG_FOUND)
  pkg_check_modules(HAWSER_LIBUV QUIET IMPORTED_TARGET GLOBAL libuv>=1.44)
  if(HAWSER_LIBUV_FOUND)
    add_library(libuv::uv INTERFACE IMPORTED GLOBAL)
    target_link_libraries(libuv::uv INTERFACE PkgConfig::HAWSER_LIBUV)
  endif()
endif()
