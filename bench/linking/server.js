// The same in Node.js: node server.js PORT NEXT RUN.
const http = require("http");
const [port, next] = process.argv.slice(2, 4).map(Number);
const run = process.argv[4];
const agent = new http.Agent({ keepAlive: true });

const call = (path, done) =>
  http.get({ host: "127.0.0.1", port: next, path, agent }, (answer) => answer.resume().on("end", done));

let number = 0;
setInterval(() => call(`/${run}/background/node/${number++}`, () => {}), 50);

http
  .createServer((request, response) => {
    setTimeout(() => call(request.url.replace("/front/", "/middle/"), () => response.end("hi")), Math.random() * 4);
  })
  .listen(port, "127.0.0.1", 256);
