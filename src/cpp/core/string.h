// SPDX-License-Identifier: MIT
//
// The value of a macro as a string.
#pragma once

#define FUSEDSSIM_STRING_(x) #x
#define FUSEDSSIM_STRING(x) FUSEDSSIM_STRING_(x)
