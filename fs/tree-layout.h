/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the snapshots of a VM stand in a drawn tree: one to a row, the newest first and
 * each above the one that it was taken on, branches side by side in lanes. Lane 0
 * is the way from the VM as it is now down through the current snapshot to the first.
 */
#ifndef KWS_FS_TREE_LAYOUT_H
#define KWS_FS_TREE_LAYOUT_H

#include "engine/engine.h"

/* More branches than that beside each other are not drawn. */
#define LANES_MAX 16

struct tree_row {
	size_t snapshot; /* its number in vm->snapshots */
	int lane;        /* -1: there was no room */
	bool above;      /* a line comes into its dot from above, in its lane */
	bool below;      /* a line goes on down from it */
	uint32_t joins;  /* lanes whose lines come from above and end in its dot; a bit each */
	uint32_t passes; /* lanes whose lines go straight through the row */
};

struct tree_layout {
	struct tree_row *rows; /* as many as the VM has snapshots */
	unsigned lanes;        /* that are used, 1 at least */
};

/* The caller frees ret->rows. */
void tree_lay_out(const struct vm *vm, struct tree_layout *ret);

#endif
