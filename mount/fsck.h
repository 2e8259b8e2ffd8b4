/* SPDX-License-Identifier: GPL-2.0-or-later */
/* kwsfs fsck, and fsck.kws */
#ifndef KWS_MOUNT_FSCK_H
#define KWS_MOUNT_FSCK_H

#include <stdbool.h>

/* Whether the program was called for that: as fsck.kws, or with fsck as its first word. */
bool fsck_is_meant(int argc, char **argv);

/* Returns the exit code, as in fsck(8). */
int fsck_main(int argc, char **argv);

#endif
