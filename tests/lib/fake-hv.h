/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A hypervisor for tests of the engine's steps: it does to XML what libvirt
 * does, keeps everything in files, so that it outlives a process that dies in
 * the middle of an operation, and fails at the call that a test names. It runs
 * no VM: block jobs are tested with a real one.
 */
#ifndef KWS_TESTS_FAKE_HV_H
#define KWS_TESTS_FAKE_HV_H

#include "engine/hv.h"

/* `folder` holds its state; domains in it from earlier are there again. */
struct hv *fake_hv_open(const char *folder);

/* Where events go; as hv_libvirt_open's. */
void fake_hv_listen(struct hv *hv, const struct hv_events *events);

/* Of the calls that change something, let number `n` (from 1) fail with `error`
 * (negative) before it does anything, or with `after` when it has done its
 * work. 0: none. */
void fake_hv_fail(struct hv *hv, int n, int error, bool after);

/* How many such calls there were. */
int fake_hv_calls(const struct hv *hv);

void fake_hv_set_connected(struct hv *hv, bool connected);

#endif
