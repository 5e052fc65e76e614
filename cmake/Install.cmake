# What `cmake --install` puts where: headers, libraries, the CMake package and hawser.pc. Paths are those of GNUInstallDirs.
# tests/abi builds an outside project against the result.

include(CMakePackageConfigHelpers)

install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/hawser DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DATAROOTDIR}/doc/hawser)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/Hawser)
install(TARGETS hawser_shared EXPORT HawserShared
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS hawser_static EXPORT HawserStatic
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT HawserShared NAMESPACE Hawser:: DESTINATION ${package_dir})
install(EXPORT HawserStatic NAMESPACE Hawser:: DESTINATION ${package_dir})

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/HawserConfig.cmake.in ${PROJECT_BINARY_DIR}/HawserConfig.cmake
  INSTALL_DESTINATION ${package_dir} NO_SET_AND_CHECK_MACRO)
# Before 1.0 a minor version may change what programs rely on.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/HawserConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/HawserConfig.cmake ${PROJECT_BINARY_DIR}/HawserConfigVersion.cmake
  ${PROJECT_SOURCE_DIR}/cmake/HawserLibuv.cmake ${PROJECT_SOURCE_DIR}/cmake/HawserHttplib.cmake DESTINATION ${package_dir})

# hawser.pc works from wherever the tree lies: its paths are relative to the file.
file(RELATIVE_PATH pc_to_prefix "/prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/prefix")
configure_file(${PROJECT_SOURCE_DIR}/cmake/hawser.pc.in ${PROJECT_BINARY_DIR}/hawser.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/hawser.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
