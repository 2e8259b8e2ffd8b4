/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the table needs for recovery/. */
#ifndef KWS_FS_RECOVERY_H
#define KWS_FS_RECOVERY_H

#include "fs/tree.h"

extern const struct many each_recovery_vm;

int show_recovery_last_error(struct fs *fs, const struct node *n, FILE *out, struct err *err);

#endif
