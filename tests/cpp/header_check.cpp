// SPDX-License-Identifier: MIT
//
// Nothing but the header: it needs no other include, and -Werror holds for it.
#include "fusedssim/fusedssim.h"

fusedssim_exec header_check_exec();
fusedssim_exec header_check_exec() {
    const fusedssim_exec exec = FUSEDSSIM_EXEC_DEFAULT;
    return exec;
}
