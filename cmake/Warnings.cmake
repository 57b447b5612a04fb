# SPDX-License-Identifier: MIT
# Warnings for the project's own code; an error with FUSEDSSIM_WERROR. A function and not an interface target, because
# a static libfusedssim would have to export such a target to its users.
function(fusedssim_warnings target)
  if(CMAKE_CXX_COMPILER_ID MATCHES "^(GNU|Clang|AppleClang)$")
    target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wshadow -Wundef -Wvla)
    if(FUSEDSSIM_WERROR)
      target_compile_options(${target} PRIVATE -Werror)
    endif()
  endif()
endfunction()
