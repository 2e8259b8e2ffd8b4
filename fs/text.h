/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the texts and links of the tree read: the `show` functions of the table. */
#ifndef KWS_FS_TEXT_H
#define KWS_FS_TEXT_H

#include "fs/tree.h"

typedef int show_fn(struct fs *fs, const struct node *n, FILE *out, struct err *err);

/* RFC 3339, in UTC, with nanoseconds. */
void print_time(const struct timespec *t, FILE *out);

show_fn show_version, show_orphans_last_error, show_fsck_help;

/* in .kws/ */
show_fn show_state, show_status, show_last_error, show_quiesce, show_max_depth, show_job;
show_fn show_cancel_help;

/* of a snapshot */
show_fn show_domain_xml, show_description, show_pin, show_checksums, show_revert_help;
show_fn show_info_json; /* info.c */

/* links */
show_fn show_latest, show_current, show_parent;

#endif
