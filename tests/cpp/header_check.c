/* SPDX-License-Identifier: MIT
 *
 * Nothing but the header: it needs no other include, and -Werror holds for it. */
#include "fusedssim/fusedssim.h"

fusedssim_params header_check_params(void);
fusedssim_params header_check_params(void) {
    const fusedssim_params params = FUSEDSSIM_PARAMS_DEFAULT;
    return params;
}
