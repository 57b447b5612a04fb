# SPDX-License-Identifier: MIT
# Device code at build time. Each pair of unit and architecture becomes one image, compiled by a command of its own, so
# that the build tool runs them side by side; a last command packs the images into one file, which the library embeds.
# All work is done by device_code.py. CMake's own CUDA language is not used: it wants a whole toolkit, and the library
# needs nothing but a compiler of device code, which is one Python package.

set(FUSEDSSIM_DEVICE_CODE_SCRIPT ${CMAKE_CURRENT_LIST_DIR}/device_code.py)

# Finds the compiler and checks the architectures. Sets in the caller:
#   FUSEDSSIM_DEVICE_COMPILER       for people: "NVRTC 12.9"
#   FUSEDSSIM_DEVICE_COMPILER_ARGS  for device_code.py: --nvrtc=<path> or --nvcc=<path>
#   FUSEDSSIM_DEVICE_ARCHITECTURES  the list, without words such as "all" or "default": 90;120-virtual
#   FUSEDSSIM_DEVICE_TARGETS        for people: "sm_90 compute_120"
function(fusedssim_find_device_compiler)
  execute_process(
    COMMAND
      ${Python_EXECUTABLE} ${FUSEDSSIM_DEVICE_CODE_SCRIPT} find --nvcc=${FUSEDSSIM_NVCC} --nvrtc=${FUSEDSSIM_NVRTC}
      "--architectures=${FUSEDSSIM_CUDA_ARCHITECTURES}" "--roots=${CUDAToolkit_ROOT}"
    OUTPUT_VARIABLE answer
    ERROR_VARIABLE problem
    RESULT_VARIABLE failed
    OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(failed)
    # Never go on without CUDA: who asked for it would learn much later that it is missing.
    message(FATAL_ERROR "${problem}")
  endif()
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/architectures.txt)
  foreach(name IN ITEMS COMPILER COMPILER_ARGS ARCHITECTURES TARGETS)
    if(NOT answer MATCHES "(^|\n)${name}=([^\n]*)")
      message(FATAL_ERROR "device_code.py find gave no ${name}:\n${answer}")
    endif()
    set(FUSEDSSIM_DEVICE_${name} "${CMAKE_MATCH_2}" PARENT_SCOPE)
  endforeach()
endfunction()

# Compiles src/cuda/<unit>.cu for every architecture and packs the images for SOURCE of the target, which embeds them.
function(fusedssim_embed_device_code target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "SOURCE" "UNITS")
  set(source_dir ${CMAKE_CURRENT_SOURCE_DIR}/src/cuda)
  set(output_dir ${CMAKE_CURRENT_BINARY_DIR}/device_code)
  file(MAKE_DIRECTORY ${output_dir})
  # NVRTC writes no dependency file; the headers are few, so every image depends on all of them.
  file(GLOB headers CONFIGURE_DEPENDS ${source_dir}/*.h ${CMAKE_CURRENT_SOURCE_DIR}/src/cpp/core/*.h)
  list(TRANSFORM headers PREPEND --depends= OUTPUT_VARIABLE depends)
  set(werror)
  if(FUSEDSSIM_WERROR)
    set(werror --werror)
  endif()

  set(images)
  foreach(architecture IN LISTS FUSEDSSIM_DEVICE_ARCHITECTURES)
    foreach(unit IN LISTS arg_UNITS)
      if(architecture MATCHES "^([0-9]+)-virtual$")
        set(image ${output_dir}/${unit}.compute_${CMAKE_MATCH_1}.ptx)
      else()
        set(image ${output_dir}/${unit}.sm_${architecture}.cubin)
      endif()
      cmake_path(RELATIVE_PATH image BASE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR} OUTPUT_VARIABLE shown)
      add_custom_command(
        OUTPUT ${image}
        COMMAND
          ${Python_EXECUTABLE} ${FUSEDSSIM_DEVICE_CODE_SCRIPT} compile ${FUSEDSSIM_DEVICE_COMPILER_ARGS}
          --output=${image} ${depends} ${werror} ${source_dir}/${unit}.cu -- --std=c++17 -DFUSEDSSIM_DEVICE_CODE=1
          -I${source_dir} -I${CMAKE_CURRENT_SOURCE_DIR}/src/cpp ${FUSEDSSIM_CUDA_FLAGS}
        DEPENDS ${source_dir}/${unit}.cu ${headers} ${FUSEDSSIM_DEVICE_CODE_SCRIPT}
        COMMENT "Compiling device code ${shown}"
        VERBATIM)
      list(APPEND images ${image})
    endforeach()
  endforeach()

  set(bin ${output_dir}/device_code.bin)
  set(index ${output_dir}/device_code_index.h)
  add_custom_command(
    OUTPUT ${bin} ${index}
    COMMAND ${Python_EXECUTABLE} ${FUSEDSSIM_DEVICE_CODE_SCRIPT} pack --compiler=${FUSEDSSIM_DEVICE_COMPILER}
            --bin=${bin} --index=${index} ${images}
    DEPENDS ${images} ${FUSEDSSIM_DEVICE_CODE_SCRIPT}
    COMMENT "Packing device code"
    VERBATIM)
  target_sources(${target} PRIVATE ${index})
  target_include_directories(${target} PRIVATE ${output_dir})
  set_property(SOURCE ${arg_SOURCE} APPEND PROPERTY COMPILE_DEFINITIONS FUSEDSSIM_DEVICE_CODE_BIN="${bin}")
  set_property(SOURCE ${arg_SOURCE} APPEND PROPERTY OBJECT_DEPENDS "${bin};${index}")
endfunction()
