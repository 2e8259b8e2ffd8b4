/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the table needs for the settings in recovery/, and for `candidates`. */
#ifndef KWS_FS_SIMILARITY_H
#define KWS_FS_SIMILARITY_H

#include "fs/control.h"
#include "fs/text.h"

show_fn show_weights, show_threshold, show_measure, show_recovery_policy, show_candidates;
store_fn store_weights, store_threshold, store_measure, store_recovery_policy;

#endif
