// Answers one question, given as JSON on standard input, with npm's vnpay.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(pathToFileURL(`${process.argv[2]}/`));
const { VNPay, HashAlgorithm, ProductCode, VnpLocale } = require("vnpay");

let text = "";
for await (const chunk of process.stdin) text += chunk;
const { ask, secret, tmnCode, values, answer } = JSON.parse(text);
const vnpay = new VNPay({
  tmnCode,
  secureSecret: secret,
  vnpayHost: "https://pay.example.com",
  testMode: false,
  hashAlgorithm: HashAlgorithm.SHA512,
  enableLog: false,
});

// Nothing is sent: what the peer would send is kept, and answered with what was given.
async function call(method) {
  let sent;
  globalThis.fetch = async (url, options) => {
    sent = { url, method: options.method, body: JSON.parse(options.body) };
    return new Response(JSON.stringify(answer ?? {}));
  };
  const told = await vnpay[method](values);
  return { sent, told };
}

const answers = {
  pay: () =>
    vnpay.buildPaymentUrl({ ...values, vnp_OrderType: ProductCode.Other, vnp_Locale: VnpLocale.EN }),
  ipn: () => vnpay.verifyIpnCall(values),
  return: () => vnpay.verifyReturnUrl(values),
  querydr: () => call("queryDr"),
  refund: () => call("refund"),
};
process.stdout.write(JSON.stringify(await answers[ask]()));
