/* SPDX-License-Identifier: GPL-2.0-or-later */
/* kwsfs that waits for hardly any time before it recovers a VM once more. */
#include "engine/failover.h"

__attribute__((constructor)) static void wait_for_little(void)
{
	failover_wait_ms = 20;
}
