/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who needs which layer. A graph of all layers that any domain of this libvirt
 * reaches, through its disks or its snapshots, and of the images that lie
 * beside a VM's layers without anybody naming them. Built from what is there
 * (libvirt's XML, the headers of the images) each time that something is to be
 * merged or deleted, and thrown away after: no record of it can be stale.
 */
#ifndef KWS_ENGINE_LAYERS_H
#define KWS_ENGINE_LAYERS_H

#include "engine/core.h"

#define NO_LAYER SIZE_MAX

struct layer {
	struct layer_file file;
	size_t backing; /* the layer under it, NO_LAYER if it is the base */
	size_t n_overlays; /* on top of it */
	size_t overlay;    /* one of those, NO_LAYER if there is none */
	bool top;     /* a disk of the VM has it as its source, now or at its next start */
	bool frozen;  /* a snapshot of the VM is made of it */
	bool reached; /* the VM needs it: it is one of the above or lies under one */
	bool live;    /* ... in what the VM runs with now */
	bool foreign; /* another VM needs it */
	bool known;   /* its backing file was looked up */
	bool unreadable; /* ... in vain; layers_build_all only */
};

struct layers {
	vec_of(struct layer) all;
	char *missing; /* a file of a chain of the VM that is not there, NULL if all are: what it
			* lies on is not known, and may be anything */
	bool of_everybody; /* layers_build_all */
};

/* Looks at everything, from the point of view of the VM of `s`. Also takes in
 * the images in the folders of `beside` (files, n of them). Fails if a layer
 * cannot be read: one that is not understood could need any other. */
int layers_build(struct engine *e, struct slot *s, const struct tombstone *beside, size_t n,
		 struct layers *ret, struct err *err);

/* The same from everybody's point of view: `top`, `frozen` and `reached` are said of
 * any VM, nothing is foreign, and all that libvirt's metadata of a snapshot name
 * counts, also of those that are not shown. Takes in the images in `folders`. What
 * cannot be read is marked: whoever deletes something must mind it. */
int layers_build_all(struct engine *e, char *const *folders, size_t n, struct layers *ret,
		     struct err *err);

void layers_clear(struct layers *l);

/* NO_LAYER if nobody reaches it. */
size_t layers_find(const struct layers *l, const struct layer_file *file);

#endif
