# SPDX-License-Identifier: MIT
# Warnings for the project's own code; an error with FUSEDSSIM_WERROR. A switch that lacks an enumerator, and a row of a
# table that lacks a field, are always errors: so nobody forgets a place when a dtype, a border or a device is added.
# A function and not an interface target, because a static libfusedssim would have to export such a target to its users.
function(fusedssim_warnings target)
  if(CMAKE_CXX_COMPILER_ID MATCHES "^(GNU|Clang|AppleClang)$")
    target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wshadow -Wundef -Wvla
                           -Werror=switch -Werror=missing-field-initializers)
    if(FUSEDSSIM_WERROR)
      target_compile_options(${target} PRIVATE -Werror)
    endif()
  endif()
endfunction()
