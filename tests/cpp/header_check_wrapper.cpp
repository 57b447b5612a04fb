// SPDX-License-Identifier: MIT
//
// Nothing but the C++ header: it needs no other include, and -Werror holds for it.
#include "fusedssim/fusedssim.hpp"

fusedssim::Executor header_check_executor();
fusedssim::Executor header_check_executor() { return fusedssim::Executor(2); }
