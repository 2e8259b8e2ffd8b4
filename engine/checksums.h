/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef KWS_ENGINE_CHECKSUMS_H
#define KWS_ENGINE_CHECKSUMS_H

#include "engine/core.h"

/* The thread that makes them, one file at a time. */
void *checksum_thread(void *engine);

#endif
