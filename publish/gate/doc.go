// Package gate holds what is known of a release before it is announced: the
// results of its gates, and the verdict that they give.
//
// A [Result] is of one gate and one [Subject], a release by its name and the
// digest of its image; it says what it was read from, by digest and size. A
// [Book] keeps results in a store: each image has one document, to which
// results are added and from which none is ever taken. [Evaluate] compares a
// definition's gates with the results and gives the [Verdict], whose
// [Verdict.Gate] is what [publish.Env] asks.
//
// Nothing is green by itself. A gate without a result is pending, and so is one
// whose result is of another digest, too old, from the future, or a person's
// decision that has expired. Gates that inform never block, and are shown all the
// same.
//
// A [Check] finds a result out, and [Run] carries it out: [Command], [HTTP],
// [ProwJob], [JUnit], [Kola] and [Controller] ask others; [Regression], [Links],
// [Payload], [Reachable] and [Signed] look themselves; [Manual] is what a person
// answers for. What is not there yet is pending; what cannot be read is an error, and
// recorded as pending. Evidence that says which release it is of must name the
// subject; whoever hands in a file that does not say vouches for it.
package gate
