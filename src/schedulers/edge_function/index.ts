// Edge function (Deno, as Supabase has it): the job for a scheduler that can only send
// requests. POST with "Authorization: Bearer <key>" is answered with the run's report:
//
//   200  no account failed, and no policy; if stop_reason is max_runtime, call again
//   500  some failed, and all others are deleted; or the run has an error, with SQLSTATE
//   503  the database cannot be reached, or its session is lost; what is committed stays
//   504  the run is not over in time; it ends by itself, and what it commits stays
//
// Neither the answer nor the log has the key of an account, nor a message of the server or
// of the driver, which may quote values, hosts and passwords: only names of policies and
// tables, counts, times and error codes. Table deletion_failure has the accounts.
//
// A GET may be sent ahead, or once more, by whatever is on its way: it is refused. Two calls
// at once do no harm, and a run goes on if its caller has gone.
//
//   SCHEDULED_DELETION_KEY          32 characters at least: openssl rand -hex 32
//   SCHEDULED_DELETION_DB_URL       as the job's role, and with sslmode, for this driver
//                                   encrypts only if it is told; default SUPABASE_DB_URL
//   SCHEDULED_DELETION_MAX_SECONDS  how long a run may begin batches; default 40, since
//                                   Supabase's container ends a function after 60 seconds

import { createHash, timingSafeEqual } from "node:crypto";
import postgres from "npm:postgres@3.4.9";

const CONNECT_SECONDS = 5;
const LAST_BATCH_SECONDS = 10; // after those, 504

type Failure = { sqlstate: string; table_name: string | null; constraint_name: string | null };
type Report = Record<string, unknown> & {
  errors?: Failure[];
  policies?: Record<string, Report>;
};

// What a later version adds to the report has to be let through here.
// deno-fmt-ignore
const IS_TOLD = new Set([
  "started_at", "completed_at", "duration_seconds", "run_id", "policy", "policies_failed",
  "dry_run", "users_processed", "users_deleted", "users_failed", "users_skipped",
  "users_held", "users_waiting", "total_records_deleted", "set_null_records",
  "set_default_records", "retained_records", "errors_truncated", "fk_checks_elided",
  "stop_reason", "sqlstate",
]);

const key = Deno.env.get("SCHEDULED_DELETION_KEY") ?? "";
const url = Deno.env.get("SCHEDULED_DELETION_DB_URL") ?? Deno.env.get("SUPABASE_DB_URL") ?? "";
const maxSeconds = Number(Deno.env.get("SCHEDULED_DELETION_MAX_SECONDS") ?? 40);

if (!/^[!-~]{32,}$/.test(key)) throw new Error("SCHEDULED_DELETION_KEY is not a key");
if (!URL.canParse(url)) throw new Error("SCHEDULED_DELETION_DB_URL is not a URL");
if (!(maxSeconds > 0 && maxSeconds < 86_400)) {
  throw new Error("SCHEDULED_DELETION_MAX_SECONDS is not part of a day");
}

Deno.serve(async (request) => {
  if (request.method !== "POST") return answer(405, { error: "only POST" }, { Allow: "POST" });
  if (!isAuthorized(request)) {
    return answer(401, { error: "not authorized" }, { "WWW-Authenticate": "Bearer" });
  }
  const [status, body] = await run();
  console.log(JSON.stringify({ status, ...body }));
  return answer(status, body);
});

function answer(status: number, body: object, headers = {}) {
  return Response.json(body, { status, headers: { "Cache-Control": "no-store", ...headers } });
}

// Digests are all of one length, so that the time tells nothing about the key.
function isAuthorized(request: Request) {
  const sent = /^Bearer +(\S+)$/i.exec(request.headers.get("Authorization") ?? "")?.[1] ?? "";
  const digest = (text: string) => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(sent), digest(key));
}

// In a session of its own, by a statement that is not within a transaction: it commits.
async function run(): Promise<[status: number, body: object]> {
  let sql: postgres.Sql | undefined;
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    sql?.end({ timeout: 0 });
  }, (maxSeconds + LAST_BATCH_SECONDS) * 1000);

  try {
    sql = postgres(url, {
      max: 1,
      connect_timeout: CONNECT_SECONDS,
      fetch_types: false,
      prepare: false, // a pooler may be between
      onnotice: () => {}, // they would be printed
      connection: { application_name: "scheduled_deletion" },
    });
    const [{ report }] = await sql`
      CALL run_scheduled_deletions(max_runtime => make_interval(secs => ${maxSeconds}),
                                   raise_on_failure => false)`;
    return [hasFailed(report) ? 500 : 200, withoutAccounts(report)];
  } catch (error) {
    return isLate ? [504, { error: "the run is not over in time" }] : answerTo(error);
  } finally {
    clearTimeout(timer);
    await sql?.end({ timeout: 1 });
  }
}

function answerTo(error: unknown): [status: number, body: object] {
  const failed = "the run has failed";
  const unavailable = "the database is not available";
  if (error instanceof postgres.PostgresError) {
    const sqlstate = error.code;
    return /^(08|53300|57P0)/.test(sqlstate)
      ? [503, { error: unavailable, sqlstate }]
      : [500, { error: failed, sqlstate }];
  }
  const code = (error as { code?: unknown }).code;
  if (typeof code === "string" && /^[0-9A-Z_]+$/.test(code)) {
    return [503, { error: unavailable, code }];
  }
  return [500, { error: failed }];
}

function hasFailed(report: Report) {
  return report.users_failed !== 0 || (report.policies_failed ?? 0) !== 0;
}

function withoutAccounts(report: Report): object {
  const told = Object.entries(report).filter(([name]) => IS_TOLD.has(name));
  const errors = report.errors && { errors: kinds(report.errors) };
  const policies = report.policies && {
    policies: Object.fromEntries(
      Object.entries(report.policies).map(([name, its]) => [name, withoutAccounts(its)]),
    ),
  };
  return { ...Object.fromEntries(told), ...errors, ...policies };
}

// How many accounts have failed alike
function kinds(failures: Failure[]) {
  const found = new Map<string, Failure & { users_failed: number }>();
  for (const { sqlstate, table_name, constraint_name } of failures) {
    const name = JSON.stringify([sqlstate, table_name, constraint_name]);
    const kind = found.get(name) ?? { sqlstate, table_name, constraint_name, users_failed: 0 };
    kind.users_failed++;
    found.set(name, kind);
  }
  return [...found.values()];
}
