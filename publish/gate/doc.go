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
// whose result is of another digest, too old, from the future, or by a person
// and over. Gates that inform never block, and are shown all the same.
package gate
