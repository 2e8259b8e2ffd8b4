/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Clusters that were decompressed, kept for the next reader: one cache for all
 * images, of bounded size, the least recently used go first. Thread-safe.
 */
#ifndef KWS_ENGINE_UNPACKED_H
#define KWS_ENGINE_UNPACKED_H

#include "common/err.h"
#include "engine/qcow2.h"

/* Copies [within, within + length) of the compressed cluster that `entry` says. */
int unpacked_read(const struct qcow2 *q, uint64_t entry, uint64_t within, size_t length, void *buf,
		  struct err *err);

/* Before `q` is closed. */
void unpacked_forget(const struct qcow2 *q);

#endif
