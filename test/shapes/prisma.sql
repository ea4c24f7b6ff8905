-- Ten tables as Prisma makes them: mixed-case names, text keys, timestamps without a
-- zone, ON DELETE RESTRICT where the relation is required and SET NULL where it is not.

CREATE TABLE "User" (id text PRIMARY KEY, email text NOT NULL, "deletedAt" timestamp(3));
CREATE TABLE "Account" (id text PRIMARY KEY, "userId" text NOT NULL REFERENCES "User" (id) ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE "Session" (id text PRIMARY KEY, "userId" text NOT NULL REFERENCES "User" (id) ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE "Team" (id text PRIMARY KEY, name text);
CREATE TABLE "Membership" ("userId" text NOT NULL REFERENCES "User" (id) ON DELETE RESTRICT ON UPDATE CASCADE, "teamId" text NOT NULL REFERENCES "Team" (id) ON DELETE RESTRICT ON UPDATE CASCADE, PRIMARY KEY ("userId", "teamId"));
CREATE TABLE "Post" (id text PRIMARY KEY, "authorId" text NOT NULL REFERENCES "User" (id) ON DELETE RESTRICT ON UPDATE CASCADE);
CREATE TABLE "Comment" (id text PRIMARY KEY, "postId" text NOT NULL REFERENCES "Post" (id) ON DELETE RESTRICT ON UPDATE CASCADE, "authorId" text REFERENCES "User" (id) ON DELETE SET NULL ON UPDATE CASCADE);
CREATE TABLE "Tag" (id text PRIMARY KEY);
CREATE TABLE "_PostToTag" ("A" text NOT NULL REFERENCES "Post" (id) ON DELETE CASCADE ON UPDATE CASCADE, "B" text NOT NULL REFERENCES "Tag" (id) ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE "AuditLog" (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), "userId" text, action text NOT NULL, details jsonb, "createdAt" timestamptz NOT NULL DEFAULT now());

CREATE INDEX ON "User" ("deletedAt");
CREATE INDEX ON "Account" ("userId");
CREATE INDEX ON "Session" ("userId");
CREATE INDEX ON "Post" ("authorId");
CREATE INDEX ON "Comment" ("postId");
CREATE INDEX ON "Comment" ("authorId");
CREATE INDEX ON "_PostToTag" ("A");

INSERT INTO "User" SELECT 'u' || n, 'user' || n || '@example.org', CASE WHEN n <= 2 THEN now() AT TIME ZONE 'UTC' - interval '15 days' END FROM generate_series(1, 10) n;
INSERT INTO "Account" SELECT 'a' || n, 'u' || n FROM generate_series(1, 10) n;
INSERT INTO "Session" SELECT 's' || n, 'u' || 1 + n % 10 FROM generate_series(0, 19) n;
INSERT INTO "Team" VALUES ('t');
INSERT INTO "Membership" SELECT 'u' || n, 't' FROM generate_series(1, 10) n;
INSERT INTO "Post" SELECT 'p' || n, 'u' || 1 + n % 10 FROM generate_series(0, 29) n;
INSERT INTO "Comment" SELECT 'c' || n, 'p' || n % 30, 'u' || 1 + n % 7 FROM generate_series(0, 69) n;
INSERT INTO "Tag" VALUES ('x');
INSERT INTO "_PostToTag" SELECT id, 'x' FROM "Post";
ANALYZE;
