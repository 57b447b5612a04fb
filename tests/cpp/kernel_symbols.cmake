# SPDX-License-Identifier: MIT
#
#   cmake -D NM=<nm> -D ISA=<name> -D OBJECT=<object file> -P kernel_symbols.cmake
#
# The CPU kernels are compiled once for each instruction set. A symbol that two of the object files define as weak would
# be merged by the linker: one copy, with instructions that a processor may lack. So each weak symbol must stand in the
# namespace of its instruction set, and no symbol of the C++ library may be used, whose templates become weak symbols.
execute_process(COMMAND ${NM} ${OBJECT} OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
string(LENGTH ${ISA} length)
string(REGEX MATCHALL "[^\n]+" lines "${symbols}")
set(found 0)
set(bad)
foreach(line IN LISTS lines)
  if(line MATCHES "${length}${ISA}")
    math(EXPR found "${found} + 1")
  elseif(line MATCHES " [VWvwu] [^ ]+$" OR line MATCHES " _ZN?K?St")
    string(APPEND bad "  ${line}\n")
  endif()
endforeach()
if(bad)
  message(FATAL_ERROR "${OBJECT} has symbols that another instruction set may share:\n${bad}")
elseif(found EQUAL 0)
  message(FATAL_ERROR "${OBJECT} has no symbol of namespace ${ISA}")
endif()
