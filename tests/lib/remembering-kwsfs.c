/* SPDX-License-Identifier: GPL-2.0-or-later */
/* kwsfs as it is where there are very many VMs: it starts with what it remembers of all of them. */
#include "engine/core.h"

__attribute__((constructor)) static void remember_all(void)
{
	look_at_once_ms = 0;
}
