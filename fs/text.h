/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the texts and links of the tree read: the `show` functions of the table. */
#ifndef KWS_FS_TEXT_H
#define KWS_FS_TEXT_H

#include "fs/tree.h"

typedef int show_fn(struct fs *fs, const struct node *n, FILE *out, struct err *err);

/* RFC 3339, in UTC, with nanoseconds, and without. */
void print_time(const struct timespec *t, FILE *out);
void print_seconds(time_t t, FILE *out);
char *time_text(const struct timespec *t); /* as print_time; the caller frees it */

/* What is known of a job that runs, in lines of key and value. */
void print_job(const struct job_status *job, FILE *out);

show_fn show_version, show_orphans_last_error, show_fsck_help;
show_fn show_dashboard; /* dashboard.c */

show_fn show_metrics; /* metrics.c */

/* in .kws/ */
show_fn show_state, show_last_error, show_quiesce, show_job;
show_fn show_status; /* status.c */
show_fn show_cancel_help;
show_fn show_knob, show_prune, show_all_last_error; /* policy.c; also of all VMs */

/* of a snapshot */
show_fn show_domain_xml, show_description, show_pin, show_checksums, show_revert_help;
show_fn show_expires; /* policy.c */
show_fn show_info_json; /* info.c */
size_t domain_xml_length(const struct node *n);

/* links */
show_fn show_latest, show_current, show_parent;

#endif
