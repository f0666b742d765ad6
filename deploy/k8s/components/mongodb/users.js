// Run once by the image, on an empty volume: each service has a user that can do nothing outside its own database.
for (const name of ["front", "job"]) {
  db.getSiblingDB("admin").createUser({
    user: name,
    pwd: process.env[`MONGODB_${name.toUpperCase()}_PASSWORD`],
    roles: [{ role: "readWrite", db: name }],
  });
}
