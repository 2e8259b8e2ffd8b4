/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line: kwsfs [-o OPTIONS] [URI] MOUNTPOINT, kwsfs fsck [-n|-y] [-o OPTIONS] [URI] */
#ifndef KWS_MOUNT_OPTIONS_H
#define KWS_MOUNT_OPTIONS_H

#include "common/err.h"
#include "common/log.h"

#include <stdbool.h>
#include <sys/types.h>

enum options_action { ACTION_MOUNT, ACTION_HELP, ACTION_VERSION };

/* Texts are owned by the struct. */
struct options {
	enum options_action action;
	char *uri;
	char *mountpoint; /* as it was given */
	char *state_dir;
	char *store; /* NULL: beside the disks */
	char *overlay_options; /* NULL: what is best */
	unsigned max_depth;
	char *hooks; /* NULL: none */
	unsigned hook_timeout;
	bool allow_other;
	bool foreground;
	uid_t uid;
	gid_t gid;
	mode_t umask;
	bool repair;    /* fsck -y */
	bool log_given; /* log= was among the options */
	enum log_target log_target;
	int log_level;
};

/* -EINVAL with a sentence for a command line that is wrong. `argv` is reordered. */
int options_parse(int argc, char **argv, struct options *ret, struct err *err);
/* The same for fsck: what follows that word. */
int options_parse_fsck(int argc, char **argv, struct options *ret, struct err *err);
void options_clear(struct options *o);

extern const char options_help[];

#endif
