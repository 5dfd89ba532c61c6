// Command s3peer runs publish/s3store beside the AWS SDK's transfermanager, both
// as a user would first write it, against one versitygw over one folder, taking
// turns in processes of their own.
//
//	go run . [-size MiB] [-rounds N] [-objects N] [-work DIR]
//
// Last a plan of many small objects is applied twice; the second time nothing
// changes, and at most one request an object is made.
//
// It is a module of its own because nothing else here needs transfermanager.
package main
