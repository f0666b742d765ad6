// The probe: makes the node a replica set of one if it isn't yet, and fails until it takes writes.
const password = encodeURIComponent(process.env.MONGO_INITDB_ROOT_PASSWORD);
const address = "127.0.0.1:27017/admin?directConnection=true&serverSelectionTimeoutMS=2000";
const admin = connect(`mongodb://root:${password}@${address}`);
if (!admin.hello().setName) {
  const members = [{ _id: 0, host: process.env.MONGODB_HOST }];
  admin.adminCommand({ replSetInitiate: { _id: "gristmill", members } });
}
if (!admin.hello().isWritablePrimary) quit(1);
