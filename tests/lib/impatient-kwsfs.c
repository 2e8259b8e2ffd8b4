/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kwsfs that waits for another time before it recovers a VM once more: for
 * KWS_FAILOVER_WAIT_MS, hardly any if that is not set.
 */
#include "engine/failover.h"

#include <stdlib.h>

__attribute__((constructor)) static void wait_for_that_long(void)
{
	const char *ms = getenv("KWS_FAILOVER_WAIT_MS");

	failover_wait_ms = ms ? strtoul(ms, NULL, 10) : 20;
}
