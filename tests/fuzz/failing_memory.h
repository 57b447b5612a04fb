// SPDX-License-Identifier: MIT
#pragma once

namespace fuzz {

// From now on, `allocations` of operator new succeed, in all threads together; then one fails, or all do. -1: none
// fails.
void fail_memory(int allocations, bool all_after);
// Back to normal. Whether any has failed.
bool mend_memory();

}  // namespace fuzz
