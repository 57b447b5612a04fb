# SPDX-License-Identifier: MIT
# fusedssim.pc, for builds that use pkg-config. Paths in it are relative to its own place where they can be, so that the
# tree may be moved: a wheel is unpacked anywhere.
function(fusedssim_install_pkgconfig)
  set(pc_prefix ${CMAKE_INSTALL_PREFIX})
  set(pc_libdir ${CMAKE_INSTALL_FULL_LIBDIR})
  set(pc_includedir ${CMAKE_INSTALL_FULL_INCLUDEDIR})
  if(NOT IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}" AND NOT IS_ABSOLUTE "${CMAKE_INSTALL_INCLUDEDIR}")
    file(RELATIVE_PATH up /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
    string(REGEX REPLACE "/$" "" pc_prefix "\${pcfiledir}/${up}")
    set(pc_libdir "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
    set(pc_includedir "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
  endif()

  set(pc_cflags)
  set(pc_libs "-L\${libdir} -lfusedssim")
  set(pc_libs_private)
  if(NOT BUILD_SHARED_LIBS)
    # What a static library needs is needed by everyone: C programs, too, link the C++ runtime.
    set(pc_cflags " -DFUSEDSSIM_STATIC=1")
    list(TRANSFORM CMAKE_CXX_IMPLICIT_LINK_LIBRARIES PREPEND -l OUTPUT_VARIABLE runtime)
    list(FILTER runtime INCLUDE REGEX "^-l(stdc\\+\\+|c\\+\\+|m)$")
    list(REMOVE_DUPLICATES runtime)
    list(JOIN runtime " " runtime)
    string(APPEND pc_libs " ${runtime} ${CMAKE_THREAD_LIBS_INIT} -l${CMAKE_DL_LIBS}")
  elseif(SKBUILD)
    # A wheel has no libfusedssim.so without a number, and lies where no loader looks.
    set(pc_libs "-L\${libdir} -l:$<TARGET_SONAME_FILE_NAME:fusedssim> -Wl,-rpath,\${libdir}")
  endif()
  configure_file(cmake/fusedssim.pc.in fusedssim.pc.in @ONLY)
  file(GENERATE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/fusedssim.pc INPUT ${CMAKE_CURRENT_BINARY_DIR}/fusedssim.pc.in)
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/fusedssim.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endfunction()
