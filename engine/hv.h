/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The hypervisor, as the engine sees it: the few verbs of libvirt that it
 * needs, behind a table, so that tests can put a fake with faults in its
 * place. hv-libvirt*.c are the only files that include libvirt's headers.
 *
 * XML goes through here as text; reading and writing it is domain-xml's.
 * Domains are named by their UUID, as text of 36 characters.
 *
 * Errors besides those named: -EHOSTDOWN without a connection (it comes back
 * by itself), -ENOENT for no such domain or snapshot, -EBUSY where libvirt
 * says that a job is running or another client holds the domain, -ETIMEDOUT
 * if the guest agent does not answer, -EOPNOTSUPP, -EINVAL, -EEXIST, -ENOSPC,
 * and -EIO for the rest, always with libvirt's own words in the message.
 */
#ifndef KWS_ENGINE_HV_H
#define KWS_ENGINE_HV_H

#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hv_domain {
	char uuid[37];
	char *name;
	const char *state; /* libvirt's word: "running", "shut off", "paused", ...; static */
	bool active;
	bool crashed; /* it ended, or stopped, without anybody having wanted that */
	bool stuck;   /* QEMU has paused it because of an I/O error */
	bool persistent;
	bool saved; /* shut off with its memory kept (managed save): its next start goes on there */
};

enum hv_job_state {
	HV_JOB_NONE,    /* no block job on that disk */
	HV_JOB_RUNNING,
	HV_JOB_READY,   /* an active commit, or a copy, that can be pivoted */
};

struct hv_job {
	enum hv_job_state state;
	uint64_t done, total; /* bytes, as QEMU counts */
};

enum hv_job_event { HV_JOB_EVENT_READY, HV_JOB_EVENT_COMPLETED, HV_JOB_EVENT_FAILED, HV_JOB_EVENT_CANCELED };

/* Called from the thread that runs libvirt's event loop: do not call the
 * hypervisor from there, only wake somebody up. */
struct hv_events {
	void *opaque;
	/* A domain was defined, undefined, renamed, started, stopped, ... */
	void (*domain)(void *opaque, const char *uuid);
	/* `target` is the disk's ("vda"). */
	void (*block_job)(void *opaque, const char *uuid, const char *target,
			  enum hv_job_event event);
	/* The connection was lost, or is there again: look at everything anew. */
	void (*connection)(void *opaque, bool up);
};

enum hv_create_flags {
	HV_CREATE_QUIESCE = 1 << 0, /* through the guest agent */
	HV_CREATE_NO_METADATA = 1 << 1, /* only switch over: no snapshot of libvirt's */
	HV_CREATE_UNSYNCED = 1 << 2, /* the caller calls sync, when there is less of a hurry */
};

struct hv;

struct hv_ops {
	void (*close)(struct hv *hv);
	bool (*connected)(struct hv *hv);

	/* All domains; the caller frees with hv_domains_free. */
	int (*list)(struct hv *hv, struct hv_domain **ret, size_t *ret_n, struct err *err);
	/* One; on success the caller frees ret->name. */
	int (*lookup)(struct hv *hv, const char *uuid, struct hv_domain *ret, struct err *err);
	/* `config`: what the next start uses; else what runs now, if it runs. With
	 * passwords. The caller frees *ret. */
	int (*domain_xml)(struct hv *hv, const char *uuid, bool config, char **ret,
			  struct err *err);
	int (*define)(struct hv *hv, const char *xml, struct err *err);
	/* What libvirt has written about the domain is durable when this returns. After
	 * define and the snapshot_* that change something it is; after a block job, or
	 * if somebody else may have changed it, it need not be. */
	int (*sync)(struct hv *hv, const char *uuid, struct err *err);
	int (*start)(struct hv *hv, const char *uuid, struct err *err);
	/* As pulling the plug; 0 if it does not run. */
	int (*destroy)(struct hv *hv, const char *uuid, struct err *err);
	/* Asks the guest to end; returns when it was asked. */
	int (*shutdown)(struct hv *hv, const char *uuid, struct err *err);
	/* As its button; -EINVAL if it does not run. */
	int (*reset)(struct hv *hv, const char *uuid, struct err *err);
	/* Takes its definition away, with its managed save, and leaves all other files of it.
	 * 0 if there is no such domain. */
	int (*undefine)(struct hv *hv, const char *uuid, struct err *err);

	/* Gives it another name; 0 if it has that. -EINVAL if it runs, -EEXIST. */
	int (*rename)(struct hv *hv, const char *uuid, const char *name, struct err *err);
	/* What virsh shows beside its name: of the one that runs, and at its next start. */
	int (*set_title)(struct hv *hv, const char *uuid, const char *title, struct err *err);
	/* Puts an element in the place of what its metadata have of that namespace, or, if `xml` is
	 * NULL, takes that out: of the one that runs, and at its next start. `prefix` is what the
	 * namespace is called there. */
	int (*set_metadata)(struct hv *hv, const char *uuid, const char *namespace,
			    const char *prefix, const char *xml, struct err *err);
	/* Ends it and keeps its memory in a file, written anew, that libvirt knows nothing of. */
	int (*save)(struct hv *hv, const char *uuid, const char *path, struct err *err);
	/* Goes on from that, running; the file stays. */
	int (*restore)(struct hv *hv, const char *path, struct err *err);

	/* Holds the virtual processors, or lets them go on: a VM that somebody paused looks the
	 * same. 0 if it does not run; resume: also if QEMU stopped it because of an I/O error. */
	int (*suspend)(struct hv *hv, const char *uuid, struct err *err);
	int (*resume)(struct hv *hv, const char *uuid, struct err *err);
	/* Whether the guest agent answers. */
	bool (*agent_answers)(struct hv *hv, const char *uuid);
	/* Name and version of the guest's operating system, as its agent says; NULL if it does not.
	 * -EOPNOTSUPP if it has no agent. The caller frees *ret. */
	int (*guest_os)(struct hv *hv, const char *uuid, char **ret, struct err *err);
	/* Reads a text of `max` bytes at most in the guest; NULL if there is no such file, or the
	 * agent opens none. -EFBIG. The caller frees *ret. */
	int (*guest_file)(struct hv *hv, const char *uuid, const char *path, size_t max, char **ret,
			  struct err *err);
	/* Freezes the guest's file systems through the agent. After a failure they may be frozen all
	 * the same, or become so. */
	int (*freeze)(struct hv *hv, const char *uuid, struct err *err);
	/* Undoes that; 0 if the VM does not run, or if nothing is frozen. */
	int (*thaw)(struct hv *hv, const char *uuid, struct err *err);

	/* All snapshots' names, and the current one's or NULL. The caller frees
	 * the names, the array and *ret_current. */
	int (*snapshots)(struct hv *hv, const char *uuid, char ***ret_names, size_t *ret_n,
			 char **ret_current, struct err *err);
	/* Names of those whose parent is `name`. The caller frees the names and the array. */
	int (*snapshot_children)(struct hv *hv, const char *uuid, const char *name,
				 char ***ret_names, size_t *ret_n, struct err *err);
	/* With passwords. The caller frees *ret. */
	int (*snapshot_xml)(struct hv *hv, const char *uuid, const char *name, char **ret,
			    struct err *err);
	/* Disk-only, atomic, with overlays that exist already. */
	int (*snapshot_create)(struct hv *hv, const char *uuid, const char *xml, unsigned flags,
			       struct err *err);
	/* Writes the metadata of a snapshot anew, or makes it; touches no disk. */
	int (*snapshot_redefine)(struct hv *hv, const char *uuid, const char *xml, bool current,
				 struct err *err);
	/* Forgets the metadata; children go to the parent; touches no disk. 0 if
	 * there is no such snapshot. */
	int (*snapshot_forget)(struct hv *hv, const char *uuid, const char *name,
			       struct err *err);

	/* Starts a block commit of all layers above `base` up to `top`, as named in
	 * the running domain's XML; `top` NULL is the active layer, and the job
	 * then becomes READY and waits. `bandwidth` in bytes/s, 0 is unlimited. */
	int (*commit)(struct hv *hv, const char *uuid, const char *target, const char *base,
		      const char *top, uint64_t bandwidth, struct err *err);
	/* Starts copying a disk of a running domain, with all that it lies on, into the file that
	 * `xml` names (disk_xml_build), which is there and as large. What the guest writes meanwhile
	 * goes to both, and the job then becomes READY and waits. */
	int (*copy)(struct hv *hv, const char *uuid, const char *target, const char *xml,
		    struct err *err);
	int (*job)(struct hv *hv, const char *uuid, const char *target, struct hv_job *ret,
		   struct err *err);
	/* Ends a job: with `pivot` a READY one switches to its base, or its copy. Asynchronous:
	 * wait for the event. */
	int (*job_abort)(struct hv *hv, const char *uuid, const char *target, bool pivot,
			 struct err *err);
};

/* What implementations begin with. */
struct hv {
	const struct hv_ops *ops;
};

/* Connects to libvirt; `*events` must live until close. Keeps reconnecting in
 * the background after the connection is lost. Fails if the first try does. */
int hv_libvirt_open(const char *uri, const struct hv_events *events, struct hv **ret,
		    struct err *err);

void hv_domains_free(struct hv_domain *domains, size_t n);

#endif
