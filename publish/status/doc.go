// Package status says whether streams are ready to release, and if not, what
// broke them: the readiness report that OKD Streams exists for.
//
// [Collect] asks a release controller for the [History] of a stream, and
// looks into the payloads whose difference matters; nothing of ours need run
// there. [History.AddRecorded] adds what a publish/gate book has, with or without
// a release controller. Histories may come from elsewhere too. [New] makes the [Report] of
// them, a function of its arguments alone: for each stream its builds by day,
// each gate's results, for a red gate the last green build and what changed
// between, how old the last build, accepted and published releases are, how the
// node image stands against another one, which boot images are stale and which
// updates are missing.
//
// A report is text, JSON, a page, metrics for Prometheus, and one word for
// programs: [Report.Level].
package status
