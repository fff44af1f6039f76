// NDNts 0.0.20250307 is written for Node 22; this is all that it misses in Node 20.
Promise.withResolvers ??= function withResolvers() {
  const made = {};
  made.promise = new this((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
};
