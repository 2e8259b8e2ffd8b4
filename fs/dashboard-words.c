/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/dashboard-words.h"

#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#define LANGUAGES 2

static const char *const languages[LANGUAGES] = { "en", "ko" };

static const struct {
	const char *in[LANGUAGES];
	const char *one; /* in the first language, of one thing; NULL: it is the same */
} words[W_COUNT] = {
	[W_AS_OF] = { { "As of % UTC. Open it again to see a newer state.",
			"% UTC 기준입니다. 다시 열면 새 상태가 보입니다." } },
	[W_SUMMARY] = { { "Summary", "요약" } },
	[W_VMS] = { { "VMs", "가상 머신" } },
	[W_RUNNING_OF_THEM] = { { "% running", "%대 실행 중" } },
	[W_SNAPSHOTS] = { { "Snapshots", "스냅샷" } },
	[W_HELD_BY_THEM] = { { "% held", "% 차지" } },
	[W_TOMBSTONES] = { { "Tombstones", "병합 대기" } },
	[W_TOMBSTONES_ARE] = { { "layers to merge", "병합할 계층" } },
	[W_JOBS] = { { "Running jobs", "실행 중인 작업" } },
	[W_JOBS_FAILED] = { { "% failed", "%개 실패" } },
	[W_LIBVIRT] = { { "libvirt", "libvirt" } },
	[W_CONNECTED] = { { "connected", "연결됨" } },
	[W_GONE] = { { "gone", "연결 끊김" } },
	[W_ORPHANS] = { { "Orphans", "고아 파일" } },
	[W_ORPHANS_ARE] = { { "in lost+found", "lost+found" } },
	[W_ORPHANS_UNKNOWN] = { { "ls lost+found looks for them", "ls lost+found으로 찾습니다" } },
	[W_ROOM] = { { "Free space", "남은 공간" } },
	[W_FREE] = { { "% free", "% 남음" } },
	[W_FULL_IN] = { { "Full in about % at the present rate", "지금 속도라면 약 % 뒤에 가득 찹니다" } },
	[W_NOT_SOON] = { { "At the present rate it lasts for more than ten years",
			   "지금 속도라면 10년 넘게 쓸 수 있습니다" } },
	[W_NOT_LESS] = { { "Not getting less", "줄지 않고 있습니다" } },
	[W_NO_TREND] = { { "How long it lasts is not known yet", "얼마나 갈지는 아직 알 수 없습니다" } },
	[W_OVER] = { { "as seen over %", "최근 % 동안" } },
	[W_RUNNING_JOBS] = { { "Running jobs", "실행 중인 작업" } },
	[W_DISK] = { { "disk", "디스크" } },
	[W_JOB_LEFT] = { { "% left", "% 남음" } },
	[W_ERRORS] = { { "Recent errors", "최근 오류" } },
	[W_NO_ERRORS] = { { "Nothing was refused and nothing has failed since kwsfs began.",
			    "kwsfs가 시작된 뒤 거부되거나 실패한 일이 없습니다." } },
	[W_MORE_ERRORS] = { { "% more VMs have a last error, each shown with its VM.",
			      "다른 가상 머신 %대의 마지막 오류는 각 가상 머신에 나와 있습니다." },
			    "% more VM has a last error, shown with it." },
	[W_POOLS] = { { "Pools", "풀" } },
	[W_POOL] = { { "Pool", "풀" } },
	[W_PUBLISHES] = { { "Publishes", "게시한 스냅샷" } },
	[W_SPARES] = { { "Spares ready", "준비된 예비" } },
	[W_INSTANCES] = { { "Instances", "인스턴스" } },
	[W_OUTDATED] = { { "Outdated", "이전 스냅샷의 것" } },
	[W_RECOVERY] = { { "Recovery", "복구" } },
	[W_VM_THAT_FAILS] = { { "VM that fails", "고장 난 가상 머신" } },
	[W_SIMILARITY] = { { "Similarity", "유사도" } },
	[W_BEST_CANDIDATE] = { { "Best candidate", "가장 나은 후보" } },
	[W_WHAT_IS_DONE] = { { "What would be done", "처리" } },
	[W_RUNS_ALREADY] = { { "nothing: it runs already", "없음: 이미 실행 중" } },
	[W_WOULD_START] = { { "it is started", "시작" } },
	[W_WOULD_CLONE] = { { "a clone of it is started", "복제한 뒤 시작" } },
	[W_NOBODY] = { { "Nobody who may be used is similar enough.", "쓸 수 있는 비슷한 후보가 없습니다." } },
	[W_OTHER_SUCCESSORS] = { { "% more VMs are not listed here: recovery/VM/candidates has theirs.",
				   "다른 가상 머신 %대는 여기에 없습니다. recovery/VM/candidates에서 볼 수 있습니다." },
				 "% more VM is not listed here: recovery/VM/candidates has its own." },
	[W_FIND] = { { "Find a VM", "가상 머신 찾기" } },
	[W_OPEN_ALL] = { { "Open all", "모두 펼치기" } },
	[W_CLOSE_ALL] = { { "Close all", "모두 접기" } },
	[W_NO_VMS] = { { "libvirt has no VMs here.", "libvirt에 가상 머신이 없습니다." } },
	[W_N_SNAPSHOTS] = { { "% snapshots", "스냅샷 %개" }, "% snapshot" },
	[W_NEWEST] = { { "newest % ago", "최근 것 % 전" } },
	[W_NONE_YET] = { { "No snapshots yet. %", "아직 스냅샷이 없습니다. %" } },
	[W_LAST_ERROR] = { { "Last error", "마지막 오류" } },
	[W_MERGES_FAIL] = { { "its last merge failed", "마지막 병합 실패" } },
	[W_DEPTH] = { { "Chain depth", "체인 깊이" } },
	[W_DEPTH_OF] = { { "depth %", "깊이 %" } },
	[W_HELD] = { { "Held by snapshots", "스냅샷이 차지한 공간" } },
	[W_WAITING] = { { "Layers to be merged", "병합할 계층" } },
	[W_QUIESCE] = { { "Freezing of file systems", "파일 시스템 동결" } },
	[W_NEXT_SNAPSHOT] = { { "Next snapshot", "다음 스냅샷" } },
	[W_NEXT_PRUNE] = { { "Next pruning", "다음 정리" } },
	[W_TTL] = { { "Snapshots expire after", "스냅샷 유지 기간" } },
	[W_TREE] = { { "Snapshots of %, the newest first. The line leads from each to the one that it "
		       "was taken on.",
		       "%의 스냅샷, 최근 것부터. 선은 각 스냅샷에서 그 바탕이 된 스냅샷으로 이어집니다." } },
	[W_TREE_COLUMN] = { { "Tree", "트리" } },
	[W_SNAPSHOT] = { { "Snapshot", "스냅샷" } },
	[W_TAKEN] = { { "Taken, UTC", "시각, UTC" } },
	[W_AGE] = { { "Age", "경과" } },
	[W_HOLDS] = { { "Holds", "크기" } },
	[W_CONSISTENCY] = { { "Consistency", "일관성" } },
	[W_DESCRIPTION] = { { "Description", "설명" } },
	[W_NOW] = { { "the VM now", "지금의 가상 머신" } },
	[W_CURRENT] = { { "current", "현재" } },
	[W_PINNED] = { { "pinned", "고정" } },
	[W_UNTIL] = { { "until %", "%까지" } },
	[W_TAKEN_ON] = { { "on %", "% 위" } },
	[W_NOT_TO_BE_SEEN] = { { "unknown", "알 수 없음" } },
	[W_OLDER] = { { "% older ones are not listed here. %", "더 오래된 %개는 여기에 없습니다. %" },
		      "% older one is not listed here. %" },
	[W_BRANCHES] = { { "% stand on branches that are not drawn: too many beside each other.",
			   "%개는 그리지 않은 가지에 있습니다. 나란한 가지가 너무 많습니다." },
			 "% stands on a branch that is not drawn: too many beside each other." },
	[W_SECONDS] = { { "% s", "%초" } },
	[W_MINUTES] = { { "% min", "%분" } },
	[W_HOURS] = { { "% h", "%시간" } },
	[W_DAYS] = { { "% days", "%일" }, "% day" },
	[W_YEARS] = { { "% years", "%년" }, "% year" },
	[W_OFFLINE] = { { "offline", "오프라인" } },
	[W_FILESYSTEM] = { { "filesystem", "파일 시스템" } },
	[W_CRASH] = { { "crash", "크래시" } },
	[W_UNKNOWN] = { { "unknown", "알 수 없음" } },
	[W_RUNNING] = { { "running", "실행 중" } },
	[W_SHUT_OFF] = { { "shut off", "꺼짐" } },
	[W_PAUSED] = { { "paused", "일시 정지" } },
	[W_CRASHED] = { { "crashed", "크래시됨" } },
	[W_SUSPENDED] = { { "suspended", "절전" } },
	[W_SHUTTING_DOWN] = { { "in shutdown", "종료 중" } },
	[W_MEANINGS] = { { "What these words mean", "용어 설명" } },
	[W_MEANS_HOLDS] = { { "what the snapshot's own layers take on disk; the first one's is all of the "
			      "disk as it was then.",
			      "스냅샷이 가진 계층이 디스크에서 차지하는 크기입니다. 첫 스냅샷은 그때의 디스크 "
			      "전체를 가집니다." } },
	[W_MEANS_DEPTH] = { { "how many layers lie on one another under the VM. At its limit no more "
			      "snapshots are taken until some are deleted and merged.",
			      "가상 머신 아래에 겹쳐 있는 계층의 수입니다. 한도에 이르면, 지운 스냅샷이 병합될 때까지 "
			      "새 스냅샷을 만들 수 없습니다." } },
	[W_MEANS_CONSISTENCY] = { { "offline: the VM was off. filesystem: its file systems were frozen. crash: "
				    "as after a power cut.",
				    "오프라인: 가상 머신이 꺼져 있었음. 파일 시스템: 파일 시스템을 동결하고 찍음. "
				    "크래시: 전원이 끊긴 것과 같은 상태." } },
	[W_MEANS_TOMBSTONE] = { { "a layer of a deleted snapshot that others still need. It is merged as "
				  "soon as that can be done.",
				  "지운 스냅샷의 계층 가운데 다른 것이 아직 쓰는 계층입니다. 가능해지는 대로 "
				  "병합됩니다." } },
	[W_MEANS_ORPHAN] = { { "an image in kwsfs's naming that nobody needs. It stays in lost+found until "
			       "somebody deletes it there.",
			       "kwsfs 이름 규칙을 따르지만 아무도 쓰지 않는 이미지입니다. lost+found에서 지울 때까지 "
			       "남습니다." } },
	[W_MEANS_TREND] = { { "the straight line that fits best to the last six hours, while kwsfs has been "
			      "running; it takes half an hour until there is one.",
			      "kwsfs가 실행된 동안 최근 6시간에 가장 잘 맞는 직선으로 계산합니다. 처음 30분 동안은 "
			      "알 수 없습니다." } },
	[W_MEANS_SIMILARITY] = { { "how much of what two VMs are for they have in common, by the weights of "
				   "their features: 1 is all of it, 0 nothing.",
				   "두 가상 머신의 용도가 얼마나 겹치는지를 특성의 가중치로 나타냅니다. 1은 모두, 0은 "
				   "전혀 겹치지 않음을 뜻합니다." } },
};

const char *word_in(enum word w, unsigned language)
{
	return language < LANGUAGES ? words[w].in[language] : NULL;
}

/* The text up to each %, and the next of the values in its place. */
static void put(const char *text, const char *const values[], FILE *out)
{
	for (const char *mark; (mark = strchr(text, '%')) && *values; text = mark + 1) {
		fwrite(text, 1, mark - text, out);
		fputs(*values++, out);
	}
	fputs(text, out);
}

/* As <i>, the shortest element that means nothing: there are two of them for each word. */
static void put_all(enum word w, const char *first, const char *const values[], FILE *out)
{
	for (unsigned i = 0; i < LANGUAGES; i++) {
		fprintf(out, "<i lang=%s>", languages[i]);
		put(i == 0 && first ? first : words[w].in[i], values, out);
		fputs("</i>", out);
	}
}

void say(enum word w, FILE *out)
{
	const char *const none[] = { NULL };

	put_all(w, NULL, none, out);
}

void say_with(enum word w, const char *html, FILE *out)
{
	const char *const values[] = { html, NULL };

	put_all(w, NULL, values, out);
}

void say_count_with(enum word w, uint64_t n, const char *html, FILE *out)
{
	char number[32];
	const char *const values[] = { number, html, NULL };

	snprintf(number, sizeof(number), "%" PRIu64, n);
	put_all(w, n == 1 ? words[w].one : NULL, values, out);
}

void say_count(enum word w, uint64_t n, FILE *out)
{
	say_count_with(w, n, NULL, out);
}
